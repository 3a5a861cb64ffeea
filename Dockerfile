# jaxchat in a container, on a CPU, on NVIDIA GPUs or on TPUs:
#   docker build --build-arg DEVICE=cpu -t jaxchat .       # or cuda, tpu
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs:/home/jaxchat/runs:ro" jaxchat serve runs/mine --host 0.0.0.0
# GPUs want --gpus all and NVIDIA's container toolkit; compose.yaml has both services written out.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cpu
RUN case $DEVICE in cpu | cuda | tpu) ;; *) echo "DEVICE is $DEVICE; it is cpu, cuda or tpu" >&2 && exit 1 ;; esac
WORKDIR /src
RUN python -m venv /opt/jaxchat
ENV PATH=/opt/jaxchat/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY jaxchat jaxchat
RUN case $DEVICE in cpu) extras=serve,corpora ;; *) extras=serve,corpora,$DEVICE ;; esac && \
    pip install ".[$extras]" -c constraints.txt

FROM python:${PYTHON}-slim-bookworm
ARG DEVICE=cpu
LABEL org.opencontainers.image.title=jaxchat org.opencontainers.image.licenses=Apache-2.0 jaxchat.device=${DEVICE}
RUN useradd --create-home --uid 1000 jaxchat && install --directory --owner jaxchat /home/jaxchat/.cache /home/jaxchat/runs
COPY --from=build /opt/jaxchat /opt/jaxchat
COPY configs /home/jaxchat/configs
# The last two are for NVIDIA's runtime, and mean nothing elsewhere.
ENV PATH=/opt/jaxchat/bin:$PATH PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /home/jaxchat
EXPOSE 8000
# SIGTERM, which `docker stop` sends, lets a server end its answers and a run save: give it time (--stop-timeout).
ENTRYPOINT ["jaxchat"]
CMD ["--help"]
