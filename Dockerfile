# The image of docker-compose.yml. The command selects what it runs: a worker, Flower, the metrics,
# the stand-in for Segment, or the example shop.
FROM python:3.12-slim AS build

WORKDIR /build
COPY requirements.lock ./
# Exactly the files that were locked: `make lock` renews them.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes \
        -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps .

FROM python:3.12-slim

COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
# The home directory is /tmp, the only directory that can be written. /data is for the shop's
# database; its volume inherits the owner.
RUN groupadd --gid 10001 segment \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home segment \
    && install -d -o segment -g segment /data
WORKDIR /app
COPY celeryconfig.py flowerconfig.py ./
COPY examples/django_shop ./django_shop

USER 10001:10001
CMD ["celery", "worker", "--loglevel", "INFO", "--events"]
