"""Name servers, and programs that look for the way."""

import json

from programlib.lab import Lab, program

LONG = "x" * 250


@program(needs={"dnsmasq": "dnsmasq-base", "dig": "bind9-dnsutils"}, quick=True)
def dnsmasq(lab: Lab) -> str:
    """Questions over UDP and TCP, an answer that is too long for UDP, many at once, and a name that is not there."""
    words = ["-k", "-C", "/dev/null", "-p", 5353, "-u", "root", "--no-resolv", "--no-hosts", "--local=/example/"]
    words += [f"--host-record=h{number}.example,10.1.2.{number}" for number in range(100)]
    words += [f"--txt-record=long.example,{LONG}{number}" for number in range(12)]
    lab.serve("dnsmasq", *words, port=5353)
    dig = ("dig", "-p", 5353, f"@{lab.host}", "+time=5", "+tries=1")
    for way in ("+notcp", "+tcp"):
        lab.same(lab.run(*dig, way, "+short", "h7.example", "A"), "10.1.2.7\n", way)
        lab.same("status: NXDOMAIN" in lab.run(*dig, way, "no.example"), True, "a name that is not there")
    wanted = sorted(f'"{LONG}{number}"' for number in range(12))
    lab.same(sorted(lab.run(*dig, "+short", "long.example", "TXT").split()), wanted, "a long answer")
    questions = lab.text("questions", "".join(f"h{number}.example A\n" for number in range(100)))
    answers = lab.run(*dig, "+short", "-f", questions).split()
    lab.same(answers, [f"10.1.2.{number}" for number in range(100)], "100 questions")
    return "109 questions"


def _trace(lab: Lab, *words: object) -> str:
    """One probe after the other: six answers are all that Linux gives at once."""
    output = lab.run("traceroute", "-n", "-w", 2, "-q", 1, "-N", 1, "-m", 2, *words, lab.host).splitlines()
    lab.same(output[-1].split()[:2], ["1", lab.host], str(output))
    return "one hop"


@program(needs={"traceroute": "traceroute"})
def traceroute(lab: Lab) -> str:
    """With ICMP echoes, and with TCP to a closed port."""
    _trace(lab, "-I")
    return _trace(lab, "-T")


POLLERR = "traceroute waits for POLLERR, which a carrier does not have (docs/shim.md)"


@program(needs={"traceroute": "traceroute"}, known={"stack": POLLERR, "client": POLLERR})
def traceroute_udp(lab: Lab) -> str:
    """Its default method, and UDP to one port."""
    _trace(lab, "-U")
    return _trace(lab)


@program(needs={"mtr": "mtr-tiny"})
def mtr(lab: Lab) -> str:
    """Three rounds with each of ICMP, UDP and TCP."""
    for words in ((), ("--udp",), ("--tcp", "-P", 9)):
        output = lab.run("mtr", "-n", "-c", 3, "-i", 0.2, "--json", *words, lab.host)
        hubs = json.loads(output)["report"]["hubs"]
        lab.same([(hub["host"], hub["Loss%"]) for hub in hubs], [(lab.host, 0.0)], f"mtr {' '.join(map(str, words))}")
    return "no loss"


@program(needs={"ping": "iputils-ping"}, quick=True)
def ping(lab: Lab) -> str:
    """Small ones, and one that is fragmented."""
    for words in (("-c", 5, "-i", 0.1), ("-c", 2, "-i", 0.1, "-s", 20000)):
        output = lab.run("ping", *words, lab.host)
        lab.same(f"{words[1]} received" in output, True, output)
    return "no loss"
