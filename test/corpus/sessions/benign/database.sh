# SPDX-License-Identifier: Apache-2.0
# A database in a file.
# needs: python3
call c1 'python3 -c "
import sqlite3
c = sqlite3.connect(\"app.db\")
c.execute(\"create table t (a)\")
c.executemany(\"insert into t values (?)\", [(i,) for i in range(1000)])
c.commit()"'
