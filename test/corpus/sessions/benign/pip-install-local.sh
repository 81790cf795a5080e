# SPDX-License-Identifier: Apache-2.0
# Install a package with pip, from a local folder and without a network.
# like: install-script
# needs: pip3
mkdir -p wheels package/thing; echo 'x = 1' >package/thing/__init__.py
printf '[project]\nname = "thing"\nversion = "1.0"\n' >package/pyproject.toml
call c1 'PIP_DISABLE_PIP_VERSION_CHECK=1 pip3 install -q --no-index --no-build-isolation --target lib ./package >/dev/null 2>&1 || true'
