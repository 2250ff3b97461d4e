# The four images, a target each: docker build --target operator --build-arg MEMBER=aisandbox-operator .
# `make image-operator` says both. docs/images.md has more.

# A release gives the digest too: deploy/images.lock.
ARG BASE=python:3.13-slim

FROM ${BASE} AS parts
COPY scripts/build_tools.txt /opt/
RUN python -m venv /opt/tools && /opt/tools/bin/pip install --no-cache-dir --require-hashes -r /opt/build_tools.txt
ENV VIRTUAL_ENV=/opt/tools PATH=/opt/tools/bin:$PATH
WORKDIR /workspace
COPY . .
ARG MEMBER
RUN python scripts/image_parts.py "${MEMBER:?the member of the workspace that the image is for}" /parts

FROM ${BASE} AS runtime
RUN python -m venv --without-pip /opt/venv

# PyTorch, gigabytes: a layer of its own, which only another version of it changes; the file is empty for a server.
# TORCH_INDEX empty: the build on PyPI, as locked. Another index (https://download.pytorch.org/whl/cpu): its build of
# the locked version; the lock cannot know its hashes.
ARG TORCH_INDEX=
COPY --from=parts /parts/torch.txt /opt/
RUN if [ ! -s /opt/torch.txt ]; then exit 0; fi; \
    if [ -z "$TORCH_INDEX" ]; \
    then set -- --require-hashes --no-deps -r /opt/torch.txt; \
    else set -- --index-url "$TORCH_INDEX" "$(grep -o '^torch==[^ ;]*' /opt/torch.txt)"; fi \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile "$@" \
    && python -m compileall -q -j 0 /opt/venv/lib

COPY --from=parts /parts/requirements.txt /opt/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --require-hashes --no-deps -r /opt/requirements.txt \
    && python -m compileall -q -j 0 /opt/venv/lib \
    && rm -r "$(command -v pip)" "$(python -c 'import pip; print(*pip.__path__)')"

COPY --from=parts /parts/app /app
# PYTHONSAFEPATH: no module comes from the working directory, where a run may mount a volume.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp ORT_DISABLE_TELEMETRY=1
USER 65532:65532
WORKDIR /tmp

ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=https://example.com/aisandbox
ARG BASE
LABEL org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.source="$SOURCE" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.base.name="$BASE"

FROM runtime AS operator
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "aisandbox_operator"]
LABEL org.opencontainers.image.title="AISandbox operator" \
    org.opencontainers.image.description="Has every TrainingRun of a namespace trained by a Job"

FROM runtime AS api-server
EXPOSE 50051 9090
ENTRYPOINT ["python", "-m", "aisandbox_api"]
LABEL org.opencontainers.image.title="AISandbox api-server" \
    org.opencontainers.image.description="The gRPC service that starts and follows training runs"

FROM runtime AS inference-server
EXPOSE 50051 9090
ENTRYPOINT ["python", "-m", "aisandbox_inference"]
LABEL org.opencontainers.image.title="AISandbox inference-server" \
    org.opencontainers.image.description="Answers Act from published ONNX policies"

# With `python -m aisandbox_environment` it is a simulator.
FROM runtime AS trainer
ENTRYPOINT ["python", "-m", "aisandbox_trainer"]
CMD ["run"]
LABEL org.opencontainers.image.title="AISandbox trainer" \
    org.opencontainers.image.description="Trains one run with Stable-Baselines3 against a simulator over gRPC"
