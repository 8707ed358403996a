// Package policies holds the Rego that Sallyport ships: sallyport.authz, which turns an app's access rules into
// decisions, and sallyport.lib with its helpers. It is part of every bundle that package policy builds.
package policies

import (
	"embed"
	"io/fs"
	"iter"
	"strings"
)

//go:embed sallyport
var files embed.FS

// Modules yields name and content of each shipped module, tests left out, in the order of their names.
func Modules() iter.Seq2[string, []byte] { return walk(false) }

// Tests yields name and content of each test of the shipped modules.
func Tests() iter.Seq2[string, []byte] { return walk(true) }

func walk(tests bool) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		err := fs.WalkDir(files, "sallyport", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.rego") != tests {
				return err
			}
			content, err := files.ReadFile(name)
			if err == nil && !yield(name, content) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			panic("BUG: embedded policy: " + err.Error())
		}
	}
}
