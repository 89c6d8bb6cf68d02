# Builds a Lambda layer from requirements.txt in Amazon's own Lambda image, so that its bytecode is that of the runtime.
#
#   cp requirements_basic_auth.txt requirements.txt        (or requirements_google_auth.txt)
#   docker build -t lambda_layer .
#   docker run --name my_lambda_layer_container lambda_layer
#   docker cp my_lambda_layer_container:/home/python_dependencies.zip .
#
# --build-arg LAMBDA_ARCH=arm64 (or x86_64) makes a layer for another architecture than the builder's, without emulation.
# --build-arg BASE_IMAGE=public.ecr.aws/lambda/python:3.12 makes one for another Python, 3.11 to 3.14.
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.13
FROM ${BASE_IMAGE}
ARG LAMBDA_ARCH
WORKDIR /home
# The bracket makes it a pattern, which may match nothing: then build_layer.py says what to copy.
COPY build_layer.py requirements.tx[t] ./
RUN python3 build_layer.py build requirements.txt python_dependencies.zip ${LAMBDA_ARCH:+--arch "$LAMBDA_ARCH"}
# The image's own entrypoint waits for a handler.
ENTRYPOINT []
CMD ["python3", "build_layer.py", "check", "python_dependencies.zip"]
