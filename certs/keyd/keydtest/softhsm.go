package keydtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// HSM is a token of SoftHSM2 for one test.
type HSM struct {
	Module  string // the library
	Conf    string // what SOFTHSM2_CONF must name
	Tokens  string // the folder that it writes
	Token   string // its label
	PIN     string
	PINFile string
}

// SoftHSM returns the token in dir, which it makes the first time, for processes of uid.
func SoftHSM(t testing.TB, dir string, uid int) HSM {
	t.Helper()
	h := HSM{
		Module: softHSMModule(t), Conf: filepath.Join(dir, "softhsm2.conf"), Tokens: filepath.Join(dir, "tokens"),
		Token: "sallyport", PIN: "8642-1357", PINFile: filepath.Join(dir, "pin"),
	}
	if _, err := os.Stat(h.Conf); err == nil {
		return h
	}
	must(t, os.Mkdir(h.Tokens, 0o700))
	must(t, os.WriteFile(h.PINFile, []byte(h.PIN+"\n"), 0o600))
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", h.Tokens)
	must(t, os.WriteFile(h.Conf, []byte(conf), 0o644))
	h.Util(t, "--init-token", "--free", "--label", h.Token, "--pin", h.PIN, "--so-pin", "a-security-officer")
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return os.Lchown(path, uid, uid)
	}))
	return h
}

// Import puts a key of a PEM file into the token.
func (h HSM) Import(t testing.TB, file, label, id string) {
	t.Helper()
	h.Util(t, "--import", file, "--token", h.Token, "--label", label, "--id", id, "--pin", h.PIN)
}

// Util runs softhsm2-util.
func (h HSM) Util(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command("softhsm2-util", append(args, "--module", h.Module)...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+h.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %s: %v: %s", args[0], err, out)
	}
}

// softHSMModule is where Debian and others put the library.
func softHSMModule(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so", "/usr/lib64/*/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("libsofthsm2.so is not installed: test/setup installs it")
	return ""
}
