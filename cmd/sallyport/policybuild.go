package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/gateway/admin"
	"sallyport/gateway/config"
	"sallyport/policy/bundle"
)

// policyBuildCommand packs a policy's Rego, data, tests and tables into a bundle.
type policyBuildCommand struct {
	Dir       string `arg:"" help:"The folder with the Rego, or a bundle to pack anew." placeholder:"DIR"`
	Out       string `required:"" short:"o" help:"The bundle to write, a .tar.gz. It appears when it is complete." type:"path" placeholder:"FILE"`
	Revision  string `help:"What the bundle is called in records and status, usually a commit." placeholder:"TEXT"`
	Diff      string `help:"The report of the review of this change, as policy diff --json prints it; the bundle names its digest." type:"existingfile" placeholder:"FILE"`
	Sign      string `help:"Sign with the private key in this file, PEM; for the algorithms HS… the secret itself." type:"existingfile" placeholder:"FILE"`
	KeyID     string `help:"What verifiers call the key." default:"sallyport" placeholder:"ID"`
	Algorithm string `help:"The signature's." default:"RS256" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA,HS256,HS384,HS512"`
	Scope     string `help:"The scope that the signature states." placeholder:"TEXT"`
}

// Run builds, and compiles what it builds with the apps of the configuration if there is one.
func (c *policyBuildCommand) Run(in *invocation) error {
	files, err := readBundle(c.Dir)
	if err != nil {
		return err
	}
	if err := c.describe(files); err != nil {
		return err
	}
	if c.Sign != "" {
		key, err := os.ReadFile(c.Sign)
		if err != nil {
			return err
		}
		if err := files.Sign(bundle.SigningKey{ID: c.KeyID, Algorithm: c.Algorithm, Private: string(key), Scope: c.Scope}); err != nil {
			return err
		}
	}
	packed, err := files.Pack()
	if err != nil {
		return err
	}
	if err := replaceFile(c.Out, packed); err != nil {
		return err
	}
	in.say("%s: %d files, sha256:%x", c.Out, len(files), sha256.Sum256(packed))
	return nil
}

// describe states revision and review in the manifest. A signature that was there is of something else now.
func (c *policyBuildCommand) describe(files bundle.Files) error {
	delete(files, bundle.SignaturesName)
	m, err := files.Manifest()
	if err != nil {
		return no{err}
	}
	m.Revision = cmp.Or(c.Revision, m.Revision)
	if len(m.Roots) == 0 {
		m.Roots = []string{""}
	}
	if c.Diff != "" {
		report, err := os.ReadFile(c.Diff)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(report)
		m.SetReview("sha256:" + hex.EncodeToString(sum[:]))
	}
	return files.SetManifest(m)
}

// replaceFile puts a file in place by rename: whoever watches it sees the old one or the whole new one.
func replaceFile(name string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// policyVerifyCommand holds a bundle against its signature.
type policyVerifyCommand struct {
	Bundle    string `arg:"" help:"The bundle: a folder, a .tar.gz or an address." placeholder:"BUNDLE"`
	Key       string `help:"The public key or certificate, PEM; for the algorithms HS… the secret itself. Default: the keys of policy.verification in the configuration." type:"existingfile" placeholder:"FILE"`
	KeyID     string `help:"What the signature calls the key." default:"sallyport" placeholder:"ID"`
	Algorithm string `help:"The signature's." default:"RS256" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA,HS256,HS384,HS512"`
	Scope     string `help:"The scope that the signature must state." placeholder:"TEXT"`
	JSON      bool   `name:"json" help:"Print JSON."`
}

// verifiedBundle is what policy verify prints.
type verifiedBundle struct {
	Verified bool     `json:"verified"`
	Revision string   `json:"revision"`
	Review   string   `json:"review,omitzero"` // digest of the review that the bundle names
	Files    []string `json:"files"`
}

// Run exits with 1 when the signature is not good.
func (c *policyVerifyCommand) Run(in *invocation) error {
	verification, err := c.verification(in)
	if err != nil {
		return err
	}
	files, err := c.files(in)
	if err != nil {
		return err
	}
	if err := files.Verify(verification); err != nil {
		if errors.Is(err, bundle.ErrSignature) {
			return no{err}
		}
		return err
	}
	m, err := files.Manifest()
	if err != nil {
		return no{err}
	}
	shown := verifiedBundle{Verified: true, Revision: m.Revision, Review: m.Review(), Files: slices.Sorted(maps.Keys(files))}
	if c.JSON {
		return printJSON(in.out, shown)
	}
	fmt.Fprintf(in.out, "signature  good\nrevision   %s\nreview     %s\nfiles      %s\n", cmp.Or(inert(shown.Revision), "-"), cmp.Or(inert(shown.Review), "-"), inert(strings.Join(shown.Files, " ")))
	return nil
}

var errNoKeys = errors.New("nobody's signature counts: name a key with --key, or keys in policy.verification")

// verification is whose signature counts, and that there must be one.
func (c *policyVerifyCommand) verification(in *invocation) (*bundle.Verification, error) {
	if c.Key != "" {
		return &bundle.Verification{Keys: []bundle.Key{{ID: c.KeyID, Algorithm: c.Algorithm, File: c.Key}}, Scope: c.Scope, Required: true}, nil
	}
	cfg, err := config.FindPolicy(in.file, os.LookupEnv)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoKeys
	}
	if err != nil {
		return nil, err
	}
	v := cfg.Policy.Verification
	if len(v.Keys) == 0 {
		return nil, errNoKeys
	}
	v.Required = true
	return &v, nil
}

func (c *policyVerifyCommand) files(in *invocation) (bundle.Files, error) {
	if !bundle.Remote(c.Bundle) {
		return readBundle(c.Bundle)
	}
	fetched, err := bundle.Fetch(in.ctx, c.Bundle, "", "")
	if err != nil {
		return nil, err
	}
	files, err := bundle.Unpack(fetched.Archive)
	if err != nil {
		return nil, no{err}
	}
	return files, nil
}

// readBundle reads a folder or an archive. That there is something wrong with it is an answer; that there is none is not.
func readBundle(name string) (bundle.Files, error) {
	files, err := bundle.Read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, no{err}
	}
	return files, err
}

// policyActivateCommand puts a policy in force beside the configuration.
type policyActivateCommand struct {
	Policy string `arg:"" help:"A bundle, a folder to make one of, or twelve digits or more of the digest of a kept policy." placeholder:"POLICY"`
	Why    string `help:"Why, for the record."`
}

// Run sends the bundle to the gateway, which need not be able to read where it is.
func (c *policyActivateCommand) Run(in *invocation) error {
	use := admin.PolicyUse{Why: c.Why}
	if _, err := os.Stat(c.Policy); err == nil {
		files, err := readBundle(c.Policy)
		if err != nil {
			return err
		}
		if use.Bundle, err = files.Pack(); err != nil {
			return err
		}
		use.Name = c.Policy
	} else {
		use.Digest = c.Policy
	}
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	if err := gateway.UsePolicy(in.ctx, use); err != nil {
		return answered(err)
	}
	return in.sayPolicy(gateway)
}
