# SPDX-License-Identifier: Apache-2.0
# Resolve and build a Go module from a local mirror.
# needs: go
mkdir -p mirror/example.com/dep/@v dep
printf 'module example.com/dep\n\ngo 1.21\n' >dep/go.mod; printf 'package dep\n\nconst X = 1\n' >dep/dep.go
cp dep/go.mod mirror/example.com/dep/@v/v1.0.0.mod; echo v1.0.0 >mirror/example.com/dep/@v/list
echo '{"Version":"v1.0.0"}' >mirror/example.com/dep/@v/v1.0.0.info
python3 - <<'P'
import zipfile
z = zipfile.ZipFile("mirror/example.com/dep/@v/v1.0.0.zip", "w")
for f in ("go.mod", "dep.go"): z.write("dep/" + f, "example.com/dep@v1.0.0/" + f)
z.close()
P
export GOPROXY="file://$PWD/mirror" GONOSUMDB='*' GONOSUMCHECK=1 GOFLAGS=-mod=mod GOMODCACHE=$HOME/gomod GOCACHE=$HOME/gocache GOTOOLCHAIN=local
call c1 'go get example.com/dep@v1.0.0 && go build ./... ; chmod -R u+w ~/gomod'
