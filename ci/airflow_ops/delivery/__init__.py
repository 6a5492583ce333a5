"""From a commit to an environment: releases of this repository, and which one an environment follows."""
