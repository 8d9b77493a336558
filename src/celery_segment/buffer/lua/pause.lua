-- Close the source to deliveries until it is resumed; calls go on being stored.
--
-- KEYS[1] the source's prefix
--
-- Returns 1, or 0 when it was paused already.
-- @include _free
free_first()
return redis.call('SETNX', KEYS[1] .. ':paused', 1)
