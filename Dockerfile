# The image of docker-compose.yml: a worker, Flower, the metrics, the stand-in for Segment and the
# example shop, by its command.
FROM python:3.12-slim AS build

WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# Which versions it takes, the library says.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir \
        '.[django,flower,metrics]' 'gunicorn>=22'

FROM python:3.12-slim

COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
# At home in /tmp, since nothing else can be written. /data is the place of the shop's database,
# whose volume takes over the owner.
RUN groupadd --gid 10001 segment \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home segment \
    && install -d -o segment -g segment /data
WORKDIR /app
COPY celeryconfig.py flowerconfig.py ./
COPY examples/django_shop ./django_shop

USER 10001:10001
CMD ["celery", "worker", "--loglevel", "INFO", "--events"]
