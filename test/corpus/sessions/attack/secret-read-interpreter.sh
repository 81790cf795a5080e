# SPDX-License-Identifier: Apache-2.0
# A script reads it, so that no command line names it.
# finds: secret-read
# needs: python3
cat >tool.py <<'P'
import os
open(os.path.join(os.environ["HOME"], "." + "ssh", "id_" + "ed25519")).read()
P
call c1 'python3 tool.py'
