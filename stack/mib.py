"""Counters, under the names that `nstat -az` prints on Linux. One slot each, so a misspelt name is an error.

What is listed here is counted somewhere; `Nuse…` names are ours, for what Linux has no word for.
"""

from dataclasses import dataclass, fields


@dataclass(slots=True, eq=False)
class Mib:
    """All counters of one stack."""

    IpInReceives: int = 0
    IpInHdrErrors: int = 0
    IpInAddrErrors: int = 0
    IpInUnknownProtos: int = 0
    IpInDelivers: int = 0
    IpOutRequests: int = 0
    IpOutNoRoutes: int = 0
    IpReasmTimeout: int = 0
    IpReasmReqds: int = 0
    IpReasmOKs: int = 0
    IpReasmFails: int = 0
    IpFragOKs: int = 0
    IpFragFails: int = 0
    IpFragCreates: int = 0
    IpExtInCsumErrors: int = 0
    IpExtInTruncatedPkts: int = 0
    IpExtInCEPkts: int = 0
    IpExtInMcastPkts: int = 0
    IpExtInBcastPkts: int = 0
    IcmpInMsgs: int = 0
    IcmpInErrors: int = 0
    IcmpInCsumErrors: int = 0
    IcmpInDestUnreachs: int = 0
    IcmpInTimeExcds: int = 0
    IcmpInParmProbs: int = 0
    IcmpInEchos: int = 0
    IcmpInEchoReps: int = 0
    IcmpInRedirects: int = 0
    IcmpOutMsgs: int = 0
    IcmpOutErrors: int = 0
    IcmpOutDestUnreachs: int = 0
    IcmpOutTimeExcds: int = 0
    IcmpOutEchos: int = 0
    IcmpOutEchoReps: int = 0
    IcmpOutRateLimitGlobal: int = 0
    IcmpOutRateLimitHost: int = 0
    TcpActiveOpens: int = 0
    TcpPassiveOpens: int = 0
    TcpAttemptFails: int = 0
    TcpEstabResets: int = 0
    TcpInSegs: int = 0
    TcpOutSegs: int = 0
    TcpRetransSegs: int = 0
    TcpInErrs: int = 0
    TcpOutRsts: int = 0
    TcpInCsumErrors: int = 0
    UdpInDatagrams: int = 0
    UdpNoPorts: int = 0
    UdpInErrors: int = 0
    UdpOutDatagrams: int = 0
    UdpRcvbufErrors: int = 0
    UdpSndbufErrors: int = 0
    UdpInCsumErrors: int = 0
    Udp6InDatagrams: int = 0
    Udp6NoPorts: int = 0
    Udp6InErrors: int = 0
    Udp6OutDatagrams: int = 0
    Udp6RcvbufErrors: int = 0
    Udp6SndbufErrors: int = 0
    Udp6InCsumErrors: int = 0
    Ip6InReceives: int = 0
    Ip6InHdrErrors: int = 0
    Ip6InTruncatedPkts: int = 0
    Ip6InAddrErrors: int = 0
    Ip6InUnknownProtos: int = 0
    Ip6InDelivers: int = 0
    Ip6OutRequests: int = 0
    Ip6OutNoRoutes: int = 0
    Ip6ReasmTimeout: int = 0
    Ip6ReasmReqds: int = 0
    Ip6ReasmOKs: int = 0
    Ip6ReasmFails: int = 0
    Ip6FragOKs: int = 0
    Ip6FragFails: int = 0
    Ip6FragCreates: int = 0
    Ip6InMcastPkts: int = 0
    Icmp6InMsgs: int = 0
    Icmp6InErrors: int = 0
    Icmp6InCsumErrors: int = 0
    Icmp6InDestUnreachs: int = 0
    Icmp6InPktTooBigs: int = 0
    Icmp6InTimeExcds: int = 0
    Icmp6InParmProblems: int = 0
    Icmp6InEchos: int = 0
    Icmp6InEchoReplies: int = 0
    Icmp6InNeighborSolicits: int = 0
    Icmp6InNeighborAdvertisements: int = 0
    Icmp6InRouterSolicits: int = 0
    Icmp6InRouterAdvertisements: int = 0
    Icmp6InGroupMembQueries: int = 0
    Icmp6InMLDv2Reports: int = 0
    Icmp6InRedirects: int = 0
    Icmp6OutMsgs: int = 0
    Icmp6OutErrors: int = 0
    Icmp6OutDestUnreachs: int = 0
    Icmp6OutTimeExcds: int = 0
    Icmp6OutParmProblems: int = 0
    Icmp6OutEchos: int = 0
    Icmp6OutEchoReplies: int = 0
    TcpExtSyncookiesSent: int = 0
    TcpExtSyncookiesRecv: int = 0
    TcpExtSyncookiesFailed: int = 0
    TcpExtEmbryonicRsts: int = 0
    TcpExtTW: int = 0
    TcpExtTWRecycled: int = 0
    TcpExtPAWSEstab: int = 0
    TcpExtTCPPAWSOldAck: int = 0
    TcpExtDelayedACKs: int = 0
    TcpExtDelayedACKLost: int = 0
    TcpExtListenOverflows: int = 0
    TcpExtListenDrops: int = 0
    TcpExtTCPHPHits: int = 0
    TcpExtTCPHPAcks: int = 0
    TcpExtTCPRenoRecovery: int = 0
    TcpExtTCPSackRecovery: int = 0
    TcpExtTCPSACKReneging: int = 0
    TcpExtTCPSACKReorder: int = 0
    TcpExtTCPLostRetransmit: int = 0
    TcpExtTCPFastRetrans: int = 0
    TcpExtTCPSlowStartRetrans: int = 0
    TcpExtTCPTimeouts: int = 0
    TcpExtTCPLossProbes: int = 0
    TcpExtTCPLossProbeRecovery: int = 0
    TcpExtTCPRcvCollapsed: int = 0
    TcpExtTCPDSACKOldSent: int = 0
    TcpExtTCPDSACKOfoSent: int = 0
    TcpExtTCPDSACKRecv: int = 0
    TcpExtTCPDSACKUndo: int = 0
    TcpExtTCPFullUndo: int = 0
    TcpExtTCPAbortOnData: int = 0
    TcpExtTCPAbortOnClose: int = 0
    TcpExtTCPAbortOnTimeout: int = 0
    TcpExtTCPDeferAcceptDrop: int = 0
    TcpExtTCPReqQFullDoCookies: int = 0
    TcpExtTCPReqQFullDrop: int = 0
    TcpExtTCPZeroWindowDrop: int = 0
    TcpExtTCPOFOQueue: int = 0
    TcpExtTCPOFODrop: int = 0
    TcpExtTCPChallengeACK: int = 0
    TcpExtTCPSYNChallenge: int = 0
    TcpExtTCPSpuriousRTOs: int = 0
    TcpExtTCPFromZeroWindowAdv: int = 0
    TcpExtTCPToZeroWindowAdv: int = 0
    TcpExtTCPSynRetrans: int = 0
    TcpExtTCPOrigDataSent: int = 0
    TcpExtTCPACKSkippedSynRecv: int = 0
    TcpExtTCPACKSkippedSeq: int = 0
    TcpExtTCPKeepAlive: int = 0
    TcpExtTCPDelivered: int = 0
    NuseInMalformed: int = 0
    NuseInWrongLink: int = 0
    NuseOutLinkDown: int = 0
    NuseOutboxDrops: int = 0
    NuseReasmEvicted: int = 0
    NusePmtuEvicted: int = 0
    NuseIcmpUnmatched: int = 0


def mib_items(mib: Mib) -> list[tuple[str, int]]:
    """(name, value) of every counter, in the order of `nstat`."""
    return [(f.name, getattr(mib, f.name)) for f in fields(mib)]
