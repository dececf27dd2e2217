"""Plans, results and diagnostics for people (text, Markdown, annotations) and for programs (JSON).

Called by the commands. Everything here is pure: values in, one string or JSON document out.
"""
