"""Synthetic routing: its parameters, probability tables and sampling."""

from wss.traces.synthetic.spec import SYNTHS, SynthSpec, synth_meta, synthesise

__all__ = ["SYNTHS", "SynthSpec", "synth_meta", "synthesise"]
