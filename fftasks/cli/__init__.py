"""The commands of doit and of the fftasks program: one module per command."""
