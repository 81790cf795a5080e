// SPDX-License-Identifier: Apache-2.0

package agent

// The most that is kept of the files that a call names.
const (
	maxPaths = 4
	maxPath  = 4 << 10
)

// paths is the files that the arguments of a call name, under the names that tools which read and edit files use.
func (d document) paths() []string {
	var paths []string
	for _, key := range []string{"file_path", "filePath", "absolute_path", "notebook_path", "path", "file"} {
		if path, ok := d[key].(string); ok && path != "" && len(path) <= maxPath && len(paths) < maxPaths {
			paths = append(paths, path)
		}
	}
	return paths
}
