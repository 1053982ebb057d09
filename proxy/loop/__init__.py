"""The loop: it looks, decides, acts, and looks again. Begin with `tick.py`.

The rooms, each importing only from those after it: `service` and `library` run it and `backtest` asks what else it
would have decided; `build` puts it together; `tick` is one pass; `act` does, `look` sees and shows; `adapters` are the
trainers and deployers behind the ports, `consumers` who reads training files, `dataset` who writes them.
"""
