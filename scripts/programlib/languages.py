"""Runtimes that call the kernel in ways of their own: node, Go without libc, Java, grpcio and websockets."""

from programlib import sources
from programlib.lab import Lab, program

SIZE = 5_000_000
CLIENTS = 8


def _served(lab: Lab) -> tuple[str, str]:
    """The file that servers serve, and what their clients have to say of it."""
    path, digest = lab.file("f", SIZE)
    return str(path), f"{digest}\n" * CLIENTS + "refused\n"


@program(needs={"node": "nodejs"})
def node(lab: Lab) -> str:
    """A cluster of two processes that pass connections to each other, HTTP with keep-alive, and datagrams."""
    path, wanted = _served(lab)
    lab.serve("node", lab.text("server.js", sources.NODE_SERVER), 8000, path, says="listening twice")
    lab.same(lab.run("node", lab.text("client.js", sources.NODE_CLIENT), lab.host, 8000, CLIENTS), wanted, "node")
    return f"{CLIENTS} connections"


@program(needs={"go": "golang-go"})
def go(lab: Lab) -> str:
    """A static program: HTTP, and an echo over TCP and UDP, by its own netpoller."""
    path, wanted = _served(lab)
    env = {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOCACHE": "/tmp/nuse-go-cache", "GOFLAGS": "-p=2"}
    lab.prepare("go", "build", "-o", lab.dir / "web", lab.text("main.go", sources.GO), env=env)
    lab.begin()
    lab.serve(lab.dir / "web", "serve", ":8000", path, port=8000)
    lab.same(lab.run(lab.dir / "web", "get", f"{lab.host}:8000", f"{lab.host}:1", CLIENTS), wanted, "go")
    return f"{CLIENTS} connections"


@program(needs={"javac": "default-jdk-headless"})
def java(lab: Lab) -> str:
    """NIO and plain sockets: java.net.http, the JDK's own web server, and an echo over each kind of socket."""
    path, wanted = _served(lab)
    lab.prepare("javac", "-d", lab.dir, lab.text("Web.java", sources.JAVA))
    lab.begin()
    lab.serve("java", "-cp", lab.dir, "Web", "serve", 8000, path, port=8002)
    lab.same(lab.run("java", "-cp", lab.dir, "Web", "get", lab.host, 8000, CLIENTS), wanted, "java")
    return f"{CLIENTS} connections"


@program(needs={}, modules={"websockets": "websockets"})
def websockets(lab: Lab) -> str:
    """Fifty clients of one server, each with messages of one byte to a megabyte and back."""
    lab.serve(lab.python, "-c", sources.WEBSOCKETS_SERVER, 8765, port=8765)
    lab.same(lab.run(lab.python, "-c", sources.WEBSOCKETS_CLIENT, lab.host, 8765), "50 good\n", "websockets")
    return "50 clients"


@program(needs={}, modules={"grpc": "grpcio"})
def grpc(lab: Lab) -> str:
    """Calls one by one and a hundred at once, a stream of 20 MB, and a deadline."""
    lab.serve(lab.python, "-c", sources.GRPC_SERVER, 50051, port=50051)
    said = lab.run(lab.python, "-c", sources.GRPC_CLIENT, lab.host, 50051)
    lab.same(said, "calls good\nstream good\nDEADLINE_EXCEEDED\nUNAVAILABLE\n", "gRPC")
    return "200 calls, 20 MB"
