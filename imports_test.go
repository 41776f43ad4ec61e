package distributed_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/distributed-go/distributed"

// mayImport says which packages of the project each one may import, tests
// apart. Imports run one way: from the face and the tool down to the core.
// What stands nowhere here may import nothing of the project.
var mayImport = map[string][]string{
	".":                 {"locker", "mutex", "semaphore", "once", "memory", "dflockd"},
	"mutex":             {"locker"},
	"semaphore":         {"locker"},
	"once":              {"locker"},
	"locker/lockertest": {"locker"},
	"memory":            {"internal/table", "locker"},
	"internal/session":  {"internal/table", "codec"},
	"dflockd":           {"codec", "shard", "locker", "internal/session", "internal/identity"},
	"server":            {"internal/table", "codec", "internal/session", "internal/datadir"},
	"internal/datadir":  {},
	// Helpers of tests and measurements, which no package of the library imports.
	"internal/stocktest":     {"codec"},
	"internal/primitivetest": {"locker", "mutex", "semaphore", "once"},
	"internal/measure":       {"internal/figures", "internal/proc"},
	"internal/servers":       {"internal/echo", "internal/proc", "server"},
}

// mayUse are the modules that the library stands on, and the packages that may
// import them: nil is every one.
var mayUse = map[string][]string{
	"golang.org/x/sync":              nil,
	"github.com/cenkalti/backoff/v4": nil,
	"go.etcd.io/bbolt":               {"internal/datadir"},
}

func TestImportsRunOneWay(t *testing.T) {
	imports := readImports(t)
	for _, must := range []string{".", "locker", "internal/table", "codec", "server", "dflockd", "memory"} {
		if _, ok := imports[must]; !ok {
			t.Errorf("package %s was not found: does the test still look at the project?", must)
		}
	}
	for pkg, files := range imports {
		for file, paths := range files {
			for _, p := range paths {
				if !allowed(pkg, p) {
					t.Errorf("%s: package %s must not import %s", file, pkg, p)
				}
			}
		}
	}
}

// allowed says whether a package may have an import.
func allowed(pkg, imported string) bool {
	if rel, ok := strings.CutPrefix(imported, modulePath); ok {
		return slices.Contains(mayImport[pkg], strings.TrimPrefix(rel, "/"))
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	for module, users := range mayUse {
		if imported == module || strings.HasPrefix(imported, module+"/") {
			return users == nil || slices.Contains(users, pkg)
		}
	}
	return false
}

func TestImportRulesBite(t *testing.T) {
	for _, bad := range [][2]string{
		{"locker", modulePath + "/codec"},
		{"codec", modulePath + "/locker"},
		{"mutex", modulePath + "/dflockd"},
		{"dflockd", modulePath + "/mutex"},
		{"server", modulePath + "/locker"},
		{"memory", modulePath},
		{"locker", "github.com/stretchr/testify/require"},
		{"server", "go.etcd.io/bbolt"},
		{"locker", "go.etcd.io/bbolt/errors"},
		{"internal/datadir", "go.etcd.io/bbolty"},
		{"unheard/of", modulePath + "/locker"},
	} {
		if allowed(bad[0], bad[1]) {
			t.Errorf("package %s may import %s", bad[0], bad[1])
		}
	}
}

// readImports returns, for each package of the root module, what each of its
// files imports, but for tests.
func readImports(t *testing.T) map[string]map[string][]string {
	t.Helper()
	imports := make(map[string]map[string][]string)
	modules := nestedModules(t)
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (modules[p] || d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || path.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(p))
		if imports[pkg] == nil {
			imports[pkg] = make(map[string][]string)
		}
		imports[pkg][p] = nil
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports[pkg][p] = append(imports[pkg][p], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("looked at %v", slices.Sorted(maps.Keys(imports)))
	return imports
}

// nestedModules are the directories with a go.mod of their own: their imports
// are not the library's.
func nestedModules(t *testing.T) map[string]bool {
	t.Helper()
	mods, err := filepath.Glob("*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("*/*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	dirs := make(map[string]bool)
	for _, m := range append(mods, deeper...) {
		dirs[filepath.Dir(m)] = true
	}
	return dirs
}
