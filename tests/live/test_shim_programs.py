"""Real programs, unmodified, dynamic and static, as clients and as servers; everybody on one stack."""

import hashlib
import os
import shutil
import subprocess

import pytest

from .shim_lab import PYTHON, run_lab

SIZE = 20_000_000
C_CLIENT = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[2]))};
    static char buffer[65536];
    long total = 0, got;
    inet_pton(AF_INET6, argv[1], &to.sin6_addr);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to)) { perror("connect"); return 1; }
    if (write(fd, "GET /f HTTP/1.0\r\n\r\n", 19) != 19) return 2;
    while ((got = read(fd, buffer, sizeof buffer)) > 0) total += got;
    printf("%ld\n", total);
    return got < 0;
}
"""
GO = """
package main

import ("crypto/sha256"; "fmt"; "io"; "net"; "net/http"; "os"; "sync")

func main() {
	if os.Args[1] == "serve" {
		fmt.Println(http.ListenAndServe(os.Args[2], http.FileServer(http.Dir(os.Args[3]))))
		return
	}
	var all sync.WaitGroup
	for i := 0; i < 4; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			answer, err := http.Get(os.Args[1])
			if err != nil { fmt.Println(err); os.Exit(1) }
			hash := sha256.New()
			io.Copy(hash, answer.Body)
			fmt.Printf("%x\\n", hash.Sum(nil))
		}()
	}
	all.Wait()
	_, err := net.Dial("tcp", "127.0.0.1:1")
	fmt.Println(err)
}
"""
FORKING = """
import http.server, os, socketserver, sys
class Server(socketserver.ForkingMixIn, http.server.HTTPServer):
    address_family = 10
os.chdir(sys.argv[1])
Server(("::", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
NAME_SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    query, peer = server.recvfrom(4096)
    end = query.index(b"\\0", 12) + 5
    question, kind = query[12:end], query[end - 3]
    if kind != 1:  # no AAAA
        server.sendto(query[:2] + b"\\x85\\x80\\0\\1\\0\\0\\0\\0\\0\\0" + question, peer)
        continue
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\x0a\\1\\2\\3"
    server.sendto(query[:2] + b"\\x85\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question + answer, peer)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A directory to serve, with one file `f`."""
    path = tmp_path_factory.mktemp("site")
    (path / "f").write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(scope="module")
def digest(site):
    return hashlib.sha256((site / "f").read_bytes()).hexdigest()


def needs(*names):
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@needs("curl")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_curl_downloads_and_uploads(site, digest, tmp_path, host):
    async def scenario(lab):
        lab.start(PYTHON, "-m", "http.server", "--bind", "::", "8000", "-d", site)
        await lab.listening(8000)
        await lab.check_output("curl", "-sS", "-o", tmp_path / "got", f"http://{host}:8000/f")
        assert sha256(tmp_path / "got") == digest

    run_lab(scenario)


@needs("wget")
def test_a_forking_server_serves_several_wgets(site, digest, tmp_path):
    async def scenario(lab):
        lab.start(PYTHON, "-c", FORKING, site)
        await lab.listening(8000)
        got = [lab.start("wget", "-q", "-O", tmp_path / str(i), "http://127.0.0.1:8000/f") for i in range(4)]
        for i, each in enumerate(got):
            assert await each.wait() == 0, each.output
            assert sha256(tmp_path / str(i)) == digest

    run_lab(scenario)


@needs("nc")
def test_netcat_sends_a_file_each_way(site, digest, tmp_path):
    """One way at a time: netcat itself loses the rest of its input when the other side ends first."""

    async def scenario(lab):
        server = lab.start("sh", "-c", f"nc -d -l 9000 > {tmp_path}/up")
        await lab.listening(9000)
        await lab.check_output("sh", "-c", f"nc -N 127.0.0.1 9000 < {site}/f")
        assert await server.wait() == 0
        server = lab.start("sh", "-c", f"nc -N -l 9000 < {site}/f")
        await lab.listening(9000)
        await lab.check_output("sh", "-c", f"nc -d 127.0.0.1 9000 > {tmp_path}/down")
        assert await server.wait() == 0
        assert sha256(tmp_path / "up") == sha256(tmp_path / "down") == digest

    run_lab(scenario)


@needs("gcc")
@pytest.mark.parametrize("how", ["-static", "-pie"])
def test_a_c_program_static_or_not(site, tmp_path, how):
    (tmp_path / "client.c").write_text(C_CLIENT)
    subprocess.run(["gcc", how, "-O1", "-o", tmp_path / "client", tmp_path / "client.c"], check=True)

    async def scenario(lab):
        lab.start(PYTHON, "-m", "http.server", "--bind", "::", "8000", "-d", site)
        await lab.listening(8000)
        assert int(await lab.check_output(tmp_path / "client", "::1", "8000")) > SIZE
        assert int(await lab.check_output(tmp_path / "client", "::ffff:127.0.0.1", "8000")) > SIZE

    run_lab(scenario)


@needs("go")
def test_a_static_go_program_is_client_and_server(site, digest, tmp_path):
    (tmp_path / "main.go").write_text(GO)
    env = os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOCACHE": str(tmp_path / "cache")}
    subprocess.run(["go", "build", "-o", tmp_path / "web", tmp_path / "main.go"], check=True, env=env)

    async def scenario(lab):
        lab.start(tmp_path / "web", "serve", ":8000", site)
        await lab.listening(8000)
        output = await lab.check_output(tmp_path / "web", "http://127.0.0.1:8000/f")
        assert output.splitlines() == [digest] * 4 + ["dial tcp 127.0.0.1:1: connect: connection refused"]
        await lab.check_output(tmp_path / "web", "http://[::1]:8000/f")

    run_lab(scenario)


@needs("ssh", "ssh-keygen")
@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd"), reason="not installed: sshd")
def test_ssh_to_an_sshd(site, digest, tmp_path):
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / key], check=True)
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    server = ["/usr/sbin/sshd", "-D", "-e", "-p", "2222", "-h", tmp_path / "host", "-f", "/dev/null"]
    for option in (f"AuthorizedKeysFile={tmp_path}/user.pub", "StrictModes=no", "PidFile=none", "UsePAM=no"):
        server += ["-o", option]
    client = ["ssh", "-F", "none", "-p", "2222", "-i", tmp_path / "user", "-o", "IdentitiesOnly=yes"]
    for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"):
        client += ["-o", option]

    async def scenario(lab):
        lab.start(*server)
        await lab.listening(2222)
        user = os.environ.get("USER", "root")
        output = await lab.check_output(*client, f"{user}@127.0.0.1", f"sha256sum {site}/f; exit 0")
        assert output.split()[0] == digest

    run_lab(scenario)


@needs("dig")
def test_dig_asks_a_name_server():
    async def scenario(lab):
        lab.python(NAME_SERVER, 5300)
        await lab.until(lambda: any(each.local[1] == 5300 for each in lab.stack.udp.endpoints()))
        ask = ("dig", "+short", "+time=2", "+tries=1", "@127.0.0.1", "a.example", "A")
        assert (await lab.check_output(*ask, "-p", "5300")).strip() == "10.1.2.3"
        nobody = lab.start(*ask, "-p", "5301")
        assert await nobody.wait() != 0
        assert "connection refused" in nobody.output

    run_lab(scenario)


def test_the_resolver_of_libc_asks_a_name_server(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")

    async def scenario(lab):
        lab.python(NAME_SERVER, 53)
        await lab.until(lambda: any(each.local[1] == 53 for each in lab.stack.udp.endpoints()))
        script = "import socket; print(socket.gethostbyname('a.example'), socket.getaddrinfo('b.example', 80)[0][4])"
        output = await lab.check_output(PYTHON, "-c", script, resolv=str(tmp_path / "resolv.conf"))
        assert output.strip() == "10.1.2.3 ('10.1.2.3', 80)"

    run_lab(scenario)


@needs("ping")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_ping(host):
    async def scenario(lab):
        output = await lab.check_output("ping", "-c", "2", "-i", "0.1", host)
        assert "2 received" in output
        assert "ttl=64" in output
        mib = lab.stack.mib
        assert mib.IcmpInEchos + mib.Icmp6InEchos == 2, "the kernel answered, not the stack"

    run_lab(scenario)


def test_a_program_that_does_not_exist_is_an_error():
    async def scenario(lab):
        with pytest.raises(FileNotFoundError):
            lab.start("/no/such/program")
        with pytest.raises(PermissionError):
            lab.start("/etc/passwd")

    run_lab(scenario)


def test_exit_status_and_environment_are_the_programs_own():
    async def scenario(lab):
        assert await lab.start(PYTHON, "-c", "import sys; sys.exit(7)").wait() == 7
        assert await lab.start("sh", "-c", "kill -TERM $$").wait() == -15
        output = await lab.check_output(
            "sh", "-c", "echo $COLOUR; pwd", env={"COLOUR": "blue", "PATH": "/bin:/usr/bin"}
        )
        assert output.splitlines() == ["blue", os.getcwd()]
        ignored = "import signal; print(signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL)"
        assert (await lab.check_output("python3", "-S", "-c", ignored)).strip() == "False", "Python itself ignores it"
        status = await lab.check_output("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
        assert all(int(line.split()[1], 16) == 0 for line in status.splitlines()), status

    run_lab(scenario)
