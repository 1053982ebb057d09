"""The web side, in Starlette: feedback and health on the public port, everything else on the admin port.

`public.py` runs inside each worker and imports neither the store nor the loop; `admin.py` runs in the controller.
"""
