# Two images from one file: `service` answers questions and has no torch, `training` makes encoders
# for it. docs/docker.md says how to use them, docker-compose.yml how they belong together.
#
# Layers go from what seldom changes to what often does; the source comes last.

ARG BASE=python:3.11-slim-bookworm

# The requirements alone: an edit elsewhere in pyproject.toml leaves the layers below as they are.
FROM ${BASE} AS requirements
COPY pyproject.toml docker/requirements.py /src/
RUN python /src/requirements.py /src/pyproject.toml /requirements

FROM ${BASE} AS wheel
COPY --from=requirements /requirements/build.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    pip install --quiet --disable-pip-version-check --root-user-action ignore \
        -r /requirements/build.txt
COPY pyproject.toml README.md /src/
COPY app /src/app
COPY training /src/training
RUN pip wheel --quiet --disable-pip-version-check --no-cache-dir \
        --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src

# What both images run on: the service's packages, an account, and the folders volumes come into.
FROM ${BASE} AS runtime
RUN groupadd --gid 10001 deja \
    && useradd --uid 10001 --gid deja --no-create-home --home-dir /tmp --shell /usr/sbin/nologin deja \
    && install --directory --owner deja --group deja /data /encoders /runs \
    && python -m venv --without-pip /opt/deja
COPY constraints.txt /opt/deja/
COPY --from=requirements /requirements/service.txt /opt/deja/requirements/
# A quarter of it is not for us: the hub's client, which the tokenizers never call here (training
# gets it back), ONNX Runtime a second time for programs in C, and the packages' own tests.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    pip --python /opt/deja/bin/python install \
        --quiet --disable-pip-version-check --root-user-action ignore --compile \
        -c /opt/deja/constraints.txt -r /opt/deja/requirements/service.txt \
    && pip --python /opt/deja/bin/python uninstall \
        --quiet --root-user-action ignore --yes huggingface_hub hf-xet fsspec \
    && rm -f /opt/deja/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.* \
    && find /opt/deja/lib -depth -type d -name tests -exec rm -rf {} +
ENV PATH=/opt/deja/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# Our own files apart from the packages, at the paths they will have; the service's without training.
FROM runtime AS installed
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/deja/bin/python install \
        --quiet --disable-pip-version-check --root-user-action ignore --no-warn-script-location \
        --no-deps --no-index --root /both /wheels/*.whl \
    && cp -a /both /service \
    && rm -rf /service/opt/deja/lib/python3*/site-packages/training /service/opt/deja/bin/deja-train

FROM runtime AS training
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=requirements /requirements/training.txt /opt/deja/requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    install() { \
        pip --python /opt/deja/bin/python install \
            --quiet --disable-pip-version-check --root-user-action ignore --compile \
            -c /opt/deja/constraints.txt "$@"; \
    }; \
    { test -n "$TORCH_INDEX" \
        && install --no-deps --retries 2 --timeout 15 --index-url "$TORCH_INDEX" torch; } \
    || { echo "No build of PyTorch from '$TORCH_INDEX': taking the one pip finds (perhaps a CUDA build of several GB)"; \
        install torch; } \
    && install -r /opt/deja/requirements/training.txt
COPY --from=installed /both/opt/deja /opt/deja
ARG REVISION=
LABEL org.opencontainers.image.title="Deja, training" \
      org.opencontainers.image.description="Trains, calibrates and exports encoders for Deja." \
      org.opencontainers.image.revision="$REVISION"
# What a model hub sends is kept with the runs, out of memory.
ENV HF_HOME=/runs/.huggingface
USER 10001:10001
WORKDIR /runs
ENTRYPOINT ["deja-train"]
CMD ["--help"]

# The last target, so that a plain `docker build .` makes the service.
FROM runtime AS service
COPY --chmod=0644 docker/healthcheck.py /opt/deja/
COPY --from=installed /service/opt/deja /opt/deja
ARG REVISION=
LABEL org.opencontainers.image.title="Deja" \
      org.opencontainers.image.description="Has this been asked before? Duplicate lookup with calibrated answers." \
      org.opencontainers.image.revision="$REVISION"
# In a container every address of it is meant; who may reach it is decided by what is published.
# Without a key, or DEJA_AUTH=off by name, it refuses to start all the same.
ENV DEJA_HOST=0.0.0.0 \
    DEJA_PORT=8000 \
    DEJA_DATA_DIR=/data \
    DEJA_ENCODERS_DIR=/encoders
USER 10001:10001
WORKDIR /data
EXPOSE 8000
# Ready, not merely alive: `up --wait` and `depends_on` then wait for a service that answers. While
# anchors are embedded anew it is not ready yet; the start period leaves time for that.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10m --retries=3 \
    CMD ["/opt/deja/bin/python", "-I", "-S", "/opt/deja/healthcheck.py"]
ENTRYPOINT ["deja"]
CMD ["serve"]
