"""Pages for people: the operator's panel, and the debugger of a developer's machine.

Both are sites of the same making. A site answers a request with a value: a page, an action that
was carried out, or a response. A host turns the value into what is sent: the WSGI host here, or
Django's admin.
"""
