"""The tensor modules of the methods, by what they do in a forward pass; several methods share one.
Only methods/ imports them, when a method is built: settings and plans need no torch.
"""
