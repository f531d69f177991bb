"""What people look at: one function per question a page asks.

Every function takes a connection (a read-only role is enough) and plain parameters, holds its SQL, and
returns a frame or a frozen dataclass. Nothing here writes, caches, formats or draws; formatting belongs to the
pages, decisions to the domain.
"""
