"""``python -m voicenter_cdr`` is ``voicenter-cdr``."""

import sys

from voicenter_cdr.cli import main

sys.exit(main())
