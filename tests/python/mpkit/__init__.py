"""Black-box tools for a cache server that speaks the LMCache multiprocess protocol.

Everything here sees a server from outside: its sockets, its shared memory, its log, its process. Nothing of lmcache is
imported, so that a mistake of the reference implementation can't hide in the tests of ours.
"""
