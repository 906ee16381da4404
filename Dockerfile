# One image for all processes: the command says which.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /venv
COPY requirements-prod.lock .
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements-prod.lock
COPY pyproject.toml README.md LICENSE Procfile ./
COPY writebehind writebehind
COPY web web
COPY tasks tasks
# What builds the wheel does not get into the image.
RUN python -m venv /builder && /builder/bin/pip install --no-cache-dir "hatchling>=1.27" \
 && /builder/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /venv/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home writebehind
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# Celery and the settings file are looked for here.
WORKDIR /srv
USER writebehind
EXPOSE 8000
CMD ["python", "-m", "web"]
