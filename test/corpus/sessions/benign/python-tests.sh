# SPDX-License-Identifier: Apache-2.0
# Unit tests in Python.
# needs: python3
printf 'import unittest\nclass T(unittest.TestCase):\n  def test(self): self.assertTrue(True)\n' >test_x.py
call c1 'python3 -m unittest -q test_x'
