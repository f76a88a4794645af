"""Shared by the tests of images by index: pictures that are known again by their pixels."""

from numbered_pictures import _noise, _png, _write_files, _write_tar, twelve

__all__ = ["_noise", "_png", "_write_files", "_write_tar", "twelve"]
