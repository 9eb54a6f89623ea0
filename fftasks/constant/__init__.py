"""Constants of a graph: digests of Python values, short texts for people, and what KFP can carry."""

from fftasks.constant.digest import digest_constant as digest_constant
from fftasks.constant.digest import digest_made as digest_made
from fftasks.constant.origin import find_origin as find_origin
from fftasks.constant.parameter import kfp_value as kfp_value
from fftasks.constant.parameter import name_type as name_type
from fftasks.constant.text import describe_constant as describe_constant
