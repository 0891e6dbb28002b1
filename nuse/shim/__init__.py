"""The shim: unmodified programs use the stack, through seccomp user notification. Theory and limits: docs/shim.md.

Terms used all over:

- *program*: any task under the filter, the started command and every descendant.
- *carrier*: the AF_UNIX socket pair that stands for one TCP, UDP or echo socket. The program holds one end and believes
  it to be its INET socket; the stack holds the other, called `end` in the code.
- *notification*: one system call of a program, stopped in the kernel until the supervisor has answered it.
- *foreign*: a file descriptor that is no carrier; its calls go on into the kernel as if nobody had looked.

Invariants: data never passes through a notification except with an address attached (UDP); the stack keeps no copy of
the program's end past one call, for otherwise nobody would see the program close it; a notification can die at any
moment (signals, kill), so what a call did is either taken back or remembered for the call's restart.
"""
