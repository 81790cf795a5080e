#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
test "$(./greet | wc -l)" -eq 1
