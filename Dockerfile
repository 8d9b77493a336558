# A worker, Flower, or the metrics, with the top level's configurations.
FROM python:3.12-slim

RUN useradd --system --uid 10001 --create-home segment
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir '.[flower,metrics]'
COPY celeryconfig.py flowerconfig.py ./

USER segment
CMD ["celery", "worker", "--loglevel", "INFO", "--events"]
