"""Counters of Multipath TCP, named and ordered as `nstat -az` prints them on Linux 6.18.

What is listed here is counted somewhere. Linux has some more, of which a few have no meaning here: its shared windows
need no conflict to be told of, and TCP-MD5 there is none. `Nuse…` is what it has no word for.
"""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class MptcpMib:
    """All counters of one MptcpHost; stack.mib.mib_items lists them."""

    MPTcpExtMPCapableSYNRX: int = 0
    MPTcpExtMPCapableSYNTX: int = 0
    MPTcpExtMPCapableSYNACKRX: int = 0
    MPTcpExtMPCapableACKRX: int = 0
    MPTcpExtMPCapableFallbackACK: int = 0
    MPTcpExtMPCapableFallbackSYNACK: int = 0
    MPTcpExtMPCapableSYNTXDrop: int = 0
    MPTcpExtMPCapableSYNTXDisabled: int = 0
    MPTcpExtMPCapableEndpAttempt: int = 0
    MPTcpExtMPFallbackTokenInit: int = 0
    MPTcpExtMPTCPRetrans: int = 0
    MPTcpExtMPJoinNoTokenFound: int = 0
    MPTcpExtMPJoinSynRx: int = 0
    MPTcpExtMPJoinSynBackupRx: int = 0
    MPTcpExtMPJoinSynAckRx: int = 0
    MPTcpExtMPJoinSynAckBackupRx: int = 0
    MPTcpExtMPJoinSynAckHMacFailure: int = 0
    MPTcpExtMPJoinAckRx: int = 0
    MPTcpExtMPJoinAckHMacFailure: int = 0
    MPTcpExtMPJoinRejected: int = 0
    MPTcpExtMPJoinSynTx: int = 0
    MPTcpExtMPJoinSynTxConnectErr: int = 0
    MPTcpExtDSSNotMatching: int = 0
    MPTcpExtDSSCorruptionFallback: int = 0
    MPTcpExtDSSCorruptionReset: int = 0
    MPTcpExtInfiniteMapTx: int = 0
    MPTcpExtInfiniteMapRx: int = 0
    MPTcpExtDSSNoMatchTCP: int = 0
    MPTcpExtDataCsumErr: int = 0
    MPTcpExtOFOQueue: int = 0
    MPTcpExtNoDSSInWindow: int = 0
    MPTcpExtDuplicateData: int = 0
    MPTcpExtAddAddr: int = 0
    MPTcpExtAddAddrTx: int = 0
    MPTcpExtAddAddrTxDrop: int = 0
    MPTcpExtEchoAdd: int = 0
    MPTcpExtEchoAddTx: int = 0
    MPTcpExtEchoAddTxDrop: int = 0
    MPTcpExtPortAdd: int = 0
    MPTcpExtAddAddrDrop: int = 0
    MPTcpExtRmAddr: int = 0
    MPTcpExtRmAddrTx: int = 0
    MPTcpExtRmSubflow: int = 0
    MPTcpExtMPPrioTx: int = 0
    MPTcpExtMPPrioRx: int = 0
    MPTcpExtMPFailTx: int = 0
    MPTcpExtMPFailRx: int = 0
    MPTcpExtMPFastcloseTx: int = 0
    MPTcpExtMPFastcloseRx: int = 0
    MPTcpExtMPRstTx: int = 0
    MPTcpExtMPRstRx: int = 0
    MPTcpExtSubflowStale: int = 0
    MPTcpExtSubflowRecover: int = 0
    MPTcpExtMPCurrEstab: int = 0
    MPTcpExtBlackhole: int = 0
    MPTcpExtMPCapableDataFallback: int = 0
    MPTcpExtDssFallback: int = 0
    MPTcpExtWinProbe: int = 0
    NuseMPCapableNoKey: int = 0
    NuseDataAckAsked: int = 0
