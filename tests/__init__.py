"""Tests of fftasks: this folder mirrors the package; services/ starts the real tools they need."""
