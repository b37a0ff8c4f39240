# The service alone: no training code, no load tests, no torch. See deploy/scaling.md for what it needs beside it.
# The digest is of the index for all platforms. A newer one: docker buildx imagetools inspect python:3.11-slim-bookworm
ARG PYTHON=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON} AS packages
WORKDIR /build
COPY deploy/requirements.txt ./
# The lock is whole, so nothing is resolved here; wheels alone, so nothing of anyone's runs while it is built.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary=:all: --requirement requirements.txt \
    && /venv/bin/pip uninstall --yes --quiet pip setuptools

FROM ${PYTHON}
RUN groupadd --gid 10001 premortem \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin premortem \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
WORKDIR /app
COPY --from=packages /venv /venv
COPY service ./service
COPY models/checkpoints/mini/config.json models/checkpoints/mini/manifest.json models/checkpoints/mini/model.int8.onnx \
    models/checkpoints/mini/model.safetensors models/checkpoints/mini/tokenizer.json ./models/checkpoints/mini/
RUN ["/venv/bin/python", "-m", "compileall", "-q", "/app/service"]
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PREMORTEM_HOST=0.0.0.0 \
    PREMORTEM_PORT=8000 \
    PREMORTEM_DATA=/data
# Everything it writes is here; the root may be read-only, with a tmpfs on /tmp.
VOLUME ["/data"]
EXPOSE 8000
USER 10001:10001
STOPSIGNAL SIGTERM
# The first start reads the bundled history into the anchors, for minutes, before it listens.
HEALTHCHECK --interval=10s --timeout=3s --start-period=1800s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PREMORTEM_PORT'] + '/livez', timeout=2)"]
CMD ["python", "-m", "service", "serve"]
