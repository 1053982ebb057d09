"""Datasets to look at: what a training file holds, line by line, where it comes from, and what it has not.

Read from the files of a run and from the store; nothing here builds or changes one.
"""

from proxy.web.datasets.api import DatasetsApi
from proxy.web.datasets.folder import SPLITS, WHY
from proxy.web.datasets.reader import DatasetReader
from proxy.web.datasets.rendering import Form, Rendering, Row, render

__all__ = ["SPLITS", "WHY", "DatasetReader", "DatasetsApi", "Form", "Rendering", "Row", "render"]
