package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// welcome says what is where, and opens a browser if there is one to open.
func (d *demo) welcome() {
	fmt.Fprintf(d.out, "\nSallyport is running. Ctrl-C stops everything.\n\n")
	table(d.out, func(w io.Writer) {
		fmt.Fprintf(w, "  OPEN\tWHAT\tWHO MAY\n")
		fmt.Fprintf(w, "  %s/\tYour apps, and signing out.\teverybody\n", d.origin("auth"))
		for _, p := range d.places {
			fmt.Fprintf(w, "  %s/\t%s\t%s\n", d.origin(p.Name), p.Description, p.Who)
		}
	})
	table(d.out, func(w io.Writer) {
		fmt.Fprintf(w, "  USER\tPASSWORD\tGROUPS\tWHO\n")
		for _, p := range people() {
			groups := strings.Join(p.Groups, ", ")
			if groups == "" {
				groups = "none"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s, %s\n", p.Username, p.Password, groups, p.Name, p.About)
		}
	})
	d.suggest()
	d.explainTrust()
	d.explainNext()
	d.openBrowser()
}

// suggest says what to try.
func (d *demo) suggest() {
	fmt.Fprintf(d.out, `Things to try:

  A second factor     as ravi open the payroll and approve the run: the provider asks for one more step
  Signed in twice     in another browser; then see, and end, both at %[1]s/.sallyport/sessions
  Your own token      at %[1]s/.sallyport/tokens, for curl and git
  Signing out there   at the provider, %[2]s/: every app and open page here ends with it
  A disabled account  on the same page: its session here ends within a minute

`, d.origin("auth"), d.issuer)
}

func table(out io.Writer, rows func(io.Writer)) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	rows(w)
	w.Flush()
	fmt.Fprintln(out)
}

// explainTrust tells how to trust a CA that stays; for one that goes with the demo, why the browser warns.
func (d *demo) explainTrust() {
	if d.folder.temporary {
		fmt.Fprintf(d.out, "Browsers warn about the certificates: their CA was made for this run and goes with it.\nWith --dir DIR it stays, and can be trusted.\n\n")
		return
	}
	ca := quoted(d.folder.ca())
	fmt.Fprintf(d.out, `The certificates come from a CA made for this folder. It can vouch for %s and nothing else,
and its key was thrown away. To trust it:

  curl       curl --cacert %s %s/
  Chromium   mkdir -p ~/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n sallyport-demo -i %s
             (certutil is in libnss3-tools; to undo it: certutil -d sql:$HOME/.pki/nssdb -D -n sallyport-demo)
  Firefox    Settings, Privacy & Security, View Certificates, Authorities, Import, and choose the file

`, domain, ca, d.origin("wiki"), ca)
}

func (d *demo) explainNext() {
	sallyport := quoted(shortened(d.programs.sallyport)) + " --config " + quoted(d.folder.path("sallyport.yaml"))
	fmt.Fprintf(d.out, "What was decided, who is signed in, and how it is set up:\n\n  %[1]s audit query\n  %[1]s session list\n  %[1]s token list\n  %[1]s status\n\n", sallyport)
}

// openBrowser uses the desktop's own choice. A demo without a desktop needs none.
func (d *demo) openBrowser() {
	if d.opts.NoBrowser || os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return
	}
	opener, err := exec.LookPath("xdg-open")
	if err != nil {
		return
	}
	cmd := exec.Command(opener, d.origin("auth")+"/")
	if cmd.Start() == nil {
		go cmd.Wait() // the browser may outlive the demo; only its exit status is collected
	}
}

// shortened is the path from here, where that is shorter.
func shortened(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if relative, err := filepath.Rel(here, path); err == nil && len(relative) < len(path) {
		return relative
	}
	return path
}

// quoted is the path as a shell reads it.
func quoted(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
