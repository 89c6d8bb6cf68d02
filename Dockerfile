# Builds a layer in Amazon's own Lambda image, so that its bytecode is the runtime's.
#
#   cp requirements_basic_auth.txt requirements.txt        (or requirements_google_auth.txt)
#   docker build -t lambda_layer .
#   docker run --name my_lambda_layer_container lambda_layer
#   docker cp my_lambda_layer_container:/home/python_dependencies.zip .
#
# For another architecture than this machine's: --build-arg LAMBDA_ARCH=arm64 (or x86_64).
# For another Python, 3.11 or newer: --build-arg BASE_IMAGE=public.ecr.aws/lambda/python:3.13
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.14
FROM ${BASE_IMAGE}
ARG LAMBDA_ARCH
WORKDIR /home
# The bracket makes it a pattern, which may match nothing. Then build_layer.py says what to copy.
COPY build_layer.py requirements.tx[t] ./
RUN python3 build_layer.py build requirements.txt python_dependencies.zip \
    ${LAMBDA_ARCH:+--arch "$LAMBDA_ARCH"}
# The image's own entrypoint waits for a handler.
ENTRYPOINT []
CMD ["python3", "build_layer.py", "check", "python_dependencies.zip"]
