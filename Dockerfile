# QA LoRA on a machine of your own; docs/spaces.md has more.
#
#   docker build -t qa-lora .                          for CPUs
#   docker build -t qa-lora --build-arg DEVICE=cuda .  for an NVIDIA GPU
#   docker run --init -e QA_LORA_PUBLIC=0 -p 127.0.0.1:7860:7860 -v qa-lora:/data qa-lora
#
# In a container the app cannot know who reaches it and takes everybody for a stranger, with limits;
# QA_LORA_PUBLIC=0 says that only you do.

ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

# cpu or cuda. torch brings its own CUDA libraries, so both stand on the same base; the host needs
# NVIDIA's driver and container toolkit.
ARG DEVICE=cpu

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# Before the code, so that a change of the code installs nothing again.
COPY requirements.txt ./
RUN case "$DEVICE" in \
        cpu) pip install --extra-index-url https://download.pytorch.org/whl/cpu \
            "$(grep '^torch==' requirements.txt)" ;; \
        cuda) ;; \
        *) echo "DEVICE must be cpu or cuda; it is $DEVICE." >&2; exit 2 ;; \
    esac \
    && pip install -r requirements.txt

RUN useradd --create-home --uid 1000 app \
    && mkdir /data \
    && chown 1000:1000 /data

COPY LICENSE app.py ./
COPY qa_lora ./qa_lora

# Runs, and what is fetched from the Hub, outlive the container.
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    QA_LORA_RUNS_DIR=/data/runs \
    HF_HOME=/data/huggingface
VOLUME /data
USER 1000:1000
EXPOSE 7860

# Ctrl-C is what the app ends on; as the container's first process it would not hear SIGTERM.
STOPSIGNAL SIGINT

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'], timeout=4)"]

CMD ["python", "app.py"]
