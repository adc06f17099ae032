"""Networks that look at images through the decoder's features, and the data that they learn from.

Nothing that encodes or decodes needs this room. It wants the extra `tasks`.
"""
