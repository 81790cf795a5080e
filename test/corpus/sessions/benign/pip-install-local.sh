# SPDX-License-Identifier: Apache-2.0
# Install a package with pip, from a local folder of packages and without a network, and use it.
# like: install-script install-script-shell
# needs: pip3
mkdir -p wheels; python3 - <<'P'
import zipfile
w = zipfile.ZipFile("wheels/thing-1.0-py3-none-any.whl", "w")
w.writestr("thing/__init__.py", "x = 1\n")
w.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
w.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
w.writestr("thing-1.0.dist-info/RECORD", "")
w.close()
P
call c1 'PIP_DISABLE_PIP_VERSION_CHECK=1 pip3 install -q --no-index --find-links wheels --target lib thing && PYTHONPATH=lib python3 -c "import thing; assert thing.x == 1"'
