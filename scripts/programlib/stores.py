"""Databases, caches and brokers."""

import re
from pathlib import Path

from programlib.lab import Lab, program, sha256

MEMCACHED_UDP = """
import socket, sys
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(5)
asker.connect((sys.argv[1], 11211))
asker.send(b"\\0\\7\\0\\0\\0\\1\\0\\0get k7\\r\\n")
print(asker.recv(9000)[8:].decode())
"""


@program(
    needs={"redis-server": "redis-server", "redis-cli": "redis-tools", "redis-benchmark": "redis-tools"},
    quick=True,
)
def redis(lab: Lab) -> str:
    """A large value there and back, then redis-benchmark, pipelined and not, with its own check of errors."""
    lab.serve("redis-server", "--port", 6379, "--bind", "0.0.0.0", "--save", "", "--protected-mode", "no", port=6379)
    cli = ("redis-cli", "-h", lab.host)
    value = "".join(chr(97 + i * i % 26) for i in range(1_000_000))
    lab.text("value", value)
    lab.run("sh", "-c", f"exec redis-cli -h {lab.host} -x set key < value")
    lab.same(lab.run(*cli, "get", "key").rstrip("\n"), value, "a value of 1 MB")
    lab.same(lab.run(*cli, "strlen", "key").strip(), "1000000", "its length")
    rates = []
    for pipeline, number in ((1, 20000), (16, 200000)) if not lab.brief else ((1, 2000), (16, 40000)):
        output = lab.run(
            "redis-benchmark", "-h", lab.host, "-q", "-n", number, "-P", pipeline, "-t", "set,get", "--csv"
        )
        found = re.findall(r'^"(SET|GET)","([\d.]+)"', output, re.M)
        lab.same([name for name, _ in found], ["SET", "GET"], "results")
        rates.append("/".join(f"{float(figure):.0f}" for _, figure in found))
    return f"set/get per second {rates[0]}, pipelined {rates[1]}"


@program(needs={"memcached": "memcached", "nc": "netcat-openbsd"}, quick=True)
def memcached(lab: Lab) -> str:
    """The text protocol over TCP, a value of 900 kB, four threads of the server with 40 clients, and UDP."""
    lab.serve("memcached", "-u", "nobody", "-l", "0.0.0.0", "-U", 11211, "-m", 64, "-t", 4, port=11211)
    value, _ = lab.file("value", 900_000)
    begin = lab.text("begin", f"set big 0 0 {value.stat().st_size}\r\n")
    end = lab.text("end", "\r\nget big\r\nquit\r\n")
    lab.run("sh", "-c", f"cat {begin} {value} {end} | nc {lab.host} 11211 > got")
    head = b"STORED\r\nVALUE big 0 900000\r\n"
    lab.same((lab.dir / "got").read_bytes(), head + value.read_bytes() + b"\r\nEND\r\n", "a large value")
    clients = []
    for number in range(40):
        text = lab.text(f"ask{number}", f"set k{number} 0 0 5\r\nv{number:04}\r\nget k{number}\r\nquit\r\n")
        clients.append(lab.start("sh", "-c", f"nc {lab.host} 11211 < {text}"))
    for number, client in enumerate(clients):
        answer = f"STORED\nVALUE k{number} 0 5\nv{number:04}\nEND\n"
        lab.same(lab.wait(client).replace("\r", ""), answer, f"client {number}")
    ask = lab.run(lab.python, "-c", MEMCACHED_UDP, lab.host)
    lab.same(ask, "VALUE k7 0 5\nv0007\nEND\n\n", "over UDP")  # print ends the line, and text has no \r
    return "40 clients"


HBA = "host all all 0.0.0.0/0 trust\nlocal all all trust\n"


@program(needs={"pg_ctlcluster": "postgresql", "pgbench": "postgresql-contrib", "psql": "postgresql-client"})
def postgres(lab: Lab) -> str:
    """A backend process per client; a value of 10 MB, COPY both ways, an interrupted query, and pgbench."""
    bin_dir = max(Path("/usr/lib/postgresql").glob("*/bin"))
    lab.prepare(bin_dir / "initdb", "-D", lab.dir / "db", "-A", "trust", "-N", "-U", "postgres", user="postgres")
    (lab.dir / "db" / "pg_hba.conf").write_text(HBA)
    lab.begin()
    settings = ("listen_addresses=*", "fsync=off", f"unix_socket_directories={lab.dir}", "log_min_messages=fatal")
    options = [word for each in settings for word in ("-c", each)]
    server = lab.serve(bin_dir / "postgres", "-D", lab.dir / "db", *options, port=5432, user="postgres")
    psql = ("psql", "-h", lab.host, "-U", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1")
    lab.same(lab.run(*psql, "-c", "select repeat('abcdefghij', 1000000)"), "abcdefghij" * 1_000_000 + "\n", "a value")
    rows = "".join(f"{number}\t{number * number}\n" for number in range(50_000))
    lab.text("rows", rows)
    lab.run(*psql, "-c", "create table t (a int, b bigint)", "-c", "\\copy t from 'rows'")
    lab.same(lab.run(*psql, "-c", "\\copy t to stdout"), rows, "COPY")
    cut = lab.run(*psql, "-c", "set statement_timeout = 200", "-c", "select pg_sleep(60)", status=1)
    lab.same("statement timeout" in cut, True, "the error of a time-out")
    bench = ("pgbench", "-h", lab.host, "-U", "postgres", "-n")
    lab.run(*bench, "-i", "-I", "dtg", "postgres")
    notes = []
    for name, words in (("tpcb", ("-b", "tpcb-like")), ("select", ("-S", "-M", "prepared")), ("connect", ("-S", "-C"))):
        output = lab.run(*bench, "-c", 4, "-j", 2, "-T", 1, *words, "postgres")
        found = re.search(r"^tps = ([\d.]+)", output, re.M)
        lab.same("number of failed transactions: 0" in output and found is not None, True, output)
        notes.append(f"{name} {float(found[1]) if found else 0:.0f}")
    lab.stop(server)
    return ", ".join(notes) + " transactions/s"


@program(needs={"mosquitto": "mosquitto", "mosquitto_sub": "mosquitto-clients"}, quick=True)
def mosquitto(lab: Lab) -> str:
    """A retained message of 1 MB, and ten subscribers of whom each gets a hundred messages in order."""
    lab.serve("mosquitto", "-c", lab.text("conf", "listener 1883 0.0.0.0\nallow_anonymous true\n"), port=1883)
    path, digest = lab.file("message", 1_000_000)
    lab.run("mosquitto_pub", "-h", lab.host, "-t", "big", "-q", 1, "-r", "-f", path)
    lab.run("sh", "-c", f"exec mosquitto_sub -h {lab.host} -t big -C 1 -N > got")
    lab.same(sha256(lab.dir / "got"), digest, "a retained message")
    ask = f"exec stdbuf -oL mosquitto_sub -d -h {lab.host} -t few -q 1 -C 100 -F '%p'"
    subscribers = [lab.start("sh", "-c", ask) for _ in range(10)]
    for each in subscribers:
        lab.until(lambda each=each: "Subscribed" in lab.said(each), "a subscription is not confirmed", each)
    lines = "".join(f"message {number}\n" for number in range(100))
    lab.run("sh", "-c", f"exec mosquitto_pub -h {lab.host} -t few -q 1 -l < {lab.text('lines', lines)}")
    for each in subscribers:
        said = [line for line in lab.wait(each).splitlines() if line.startswith("message")]
        lab.same(said, lines.splitlines(), "messages")
    return "10 subscribers"
