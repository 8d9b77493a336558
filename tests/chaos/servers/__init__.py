"""The servers: a store, which is the Redis of the buffer, and a broker, which may be the same."""

from chaos.servers.base import Addresses, Broker, Servers, Store
from chaos.servers.clustered import Clustered
from chaos.servers.rabbitmq import RabbitMQ
from chaos.servers.replicated import Replicated
from chaos.servers.single import Single
from chaos.servers.watched import Watched

__all__ = [
    "Addresses",
    "Broker",
    "Clustered",
    "RabbitMQ",
    "Replicated",
    "Servers",
    "Single",
    "Store",
    "Watched",
]
