"""A local AWS (moto), and the AWS CLI in forks of one process.

Usage: stand-in.py FOLDER. Serves AWS at the address in FOLDER/endpoint, and runs `aws` for the clients of FOLDER/socket: each
command in a fork of this process, which has loaded the CLI and the models of the services. A command so takes a few percent of
the time of a new process.

moto has no access entries and no Pod Identity associations. The CLI itself validates such a command (--generate-cli-skeleton) and
sends nothing; this file remembers what was created, so that scripts see it at their next look.
"""

import array
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import traceback

folder = sys.argv[1]


def serve_aws():
    # Ends with its parent: PR_SET_PDEATHSIG.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with open(f"{folder}/endpoint.new", "w") as file:
        file.write(f"http://127.0.0.1:{port}")
    os.rename(f"{folder}/endpoint.new", f"{folder}/endpoint")
    threading.Event().wait()


def loaded_cli():
    """Gives a CLI that has read the models of the services. What depends on the environment, it reads when a command runs."""
    import awscli.botocore.httpsession
    import awscli.botocore.parsers
    import awscli.customizations.commands  # noqa: F401
    from awscli.clidriver import create_clidriver

    driver = create_clidriver()
    for service in ("eks", "iam", "s3", "sts"):
        driver.session.create_client(service, "us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
        driver.session.get_paginator_model(service)
    return driver


def without_moto(cli, args):
    """Runs a command that moto lacks, without sending it. Gives its exit code, or None if moto has it."""
    if args[:1] != ["eks"]:
        return None
    verb, _, kind = args[1].partition("-")
    kind = kind.rstrip("s")
    if kind not in ("access-entry", "access-entrie", "pod-identity-association"):
        return None
    names = {flag: args[at + 1] for at, flag in enumerate(args) if flag.startswith("--")}
    key = names.get("--principal-arn") or names.get("--service-account") or names.get("--association-id")
    mark = f"{folder}/{kind}-{key.replace('/', '_')}"
    exists = os.path.exists(mark)
    # An existing object is described by the CLI's own sample of an answer; --query would not apply to it.
    sent = [word for word in args if word not in ("--query", names.get("--query"), "--output", names.get("--output"))]
    code = run(cli, sent + ["--generate-cli-skeleton", "output"], quiet=True)
    if code:
        return code
    if verb == "create":
        if exists:
            print("An error occurred (ResourceInUseException)", file=sys.stderr)
            return 254
        open(mark, "w").close()
    elif verb == "describe" and not exists:
        print("An error occurred (ResourceNotFoundException)", file=sys.stderr)
        return 254
    elif verb == "list":
        print(key if exists else "None")
    return 0


def run(cli, args, quiet=False):
    saved = os.dup(1)
    if quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        code = cli.main(args)
    except SystemExit as exit:
        code = exit.code
    sys.stdout.flush()
    os.dup2(saved, 1)
    return code or 0


def answer(cli, client):
    message, control, _, _ = client.recvmsg(1 << 20, socket.CMSG_LEN(12))
    descriptors = array.array("i", control[0][2])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    request = json.loads(message)
    os.chdir(request["folder"])
    # The CLI has set this one when it was imported.
    data_path = os.environ["AWS_DATA_PATH"]
    os.environ.clear()
    os.environ.update(request["environment"], AWS_DATA_PATH=data_path)
    args = request["args"]
    with open(f"{folder}/commands", "a") as file:
        file.write(json.dumps(args) + "\n")
    code = without_moto(cli, args)
    if code is None:
        code = run(cli, args)
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(bytes([code & 255]))


def main():
    server = os.fork()
    if server == 0:
        serve_aws()
    signal.signal(signal.SIGTERM, lambda *_: (os.kill(server, signal.SIGTERM), os._exit(0)))
    cli = loaded_cli()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/socket")
    listener.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                answer(cli, client)
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        client.close()


main()
