# llmstack with the bundled llama.cpp, which runs models on the processor.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY llmstack llmstack
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY --from=build /wheels /wheels
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[engine]" && rm -r /wheels \
 && useradd --create-home llmstack && install -d -o llmstack /project
USER llmstack
WORKDIR /project
EXPOSE 10101
ENTRYPOINT ["llmstack"]
CMD ["start", "--foreground"]
