package evidence

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// check finds what no writer would have put down: it makes the manifest safe to follow.
func (m *Manifest) check() error {
	files := make(map[string]bool, len(m.Files))
	for i := range m.Files {
		f := &m.Files[i]
		limit := limitOf(f.Name)
		switch {
		case limit == 0 || f.Name == ManifestName || f.Name == NoteName:
			return fmt.Errorf("no bundle lists a file %q", f.Name)
		case files[f.Name]:
			return fmt.Errorf("%s is listed twice", f.Name)
		case f.Size < 0 || f.Size > limit || f.Packed < 0 || f.Packed > maxMember:
			return fmt.Errorf("%s cannot have %d bytes, packed into %d", f.Name, f.Size, f.Packed)
		}
		files[f.Name] = true
	}
	names := make(map[string]bool)
	for i := range m.Logs {
		l := &m.Logs[i]
		if names[l.Log] {
			return fmt.Errorf("log %q is there twice", l.Log)
		}
		names[l.Log] = true
		if err := errors.Join(l.check(m.OnlyMatching, files)); err != nil {
			return fmt.Errorf("log %q: %w", l.Log, err)
		}
	}
	return errors.Join(m.checkPolicies(files), m.checkRest(files))
}

// checkRest makes sure that every file is there for something: what nothing refers to, nobody would look at.
func (m *Manifest) checkRest(files map[string]bool) error {
	used := map[string]bool{ReadmeName: true, SummaryName: true, SchemaName: true}
	for i := range m.Logs {
		l := &m.Logs[i]
		used[checkpointName(l.Log)], used[proofName(l.Log)] = true, true
		for _, p := range l.Parts {
			used[p.File], used[p.Matches] = true, true
		}
	}
	for _, digest := range m.Policies {
		name, _ := policyName(digest) // checked before
		used[name] = true
	}
	for name := range files {
		if !used[name] {
			return fmt.Errorf("nothing refers to %s", name)
		}
	}
	return nil
}

func (m *Manifest) checkPolicies(files map[string]bool) error {
	for i, digest := range slices.Concat(m.Policies, m.MissingPolicies) {
		name, err := policyName(digest)
		if err != nil {
			return err
		}
		if here := i < len(m.Policies); files[name] != here {
			return fmt.Errorf("policy archive %s: listed is %v, stated %v", name, files[name], here)
		}
	}
	return nil
}

func (l *LogManifest) check(onlyMatching bool, files map[string]bool) error {
	switch {
	case !files[checkpointName(l.Log)] || !files[proofName(l.Log)]:
		return errors.New("its checkpoint or proof is not listed")
	case l.Size > math.MaxInt64 || l.First > l.End || l.End > l.Size || l.Oldest > l.First || l.Records != l.End-l.First:
		return fmt.Errorf("records %d to %d of %d, oldest %d, make no range of %d", l.First, l.End, l.Size, l.Oldest, l.Records)
	case l.Matching > l.InPeriod || l.InPeriod > l.Records:
		return fmt.Errorf("%d of %d in the period match", l.Matching, l.InPeriod)
	case !onlyMatching && l.Withheld != 0, onlyMatching && l.Withheld != l.Records-l.Matching:
		return fmt.Errorf("%d records are withheld", l.Withheld)
	}
	return errors.Join(l.checkParts(onlyMatching, files), l.checkCounts())
}

func (l *LogManifest) checkParts(onlyMatching bool, files map[string]bool) error {
	next, matching := l.First, uint64(0)
	for _, p := range l.Parts {
		mixed := p.Matching > 0 && p.Matching < p.Records && !onlyMatching
		switch {
		case p.File != partName(l.Log, next) || p.First != next || !files[p.File]:
			return fmt.Errorf("%s is not the file of record %d", p.File, next)
		case p.Records == 0 || p.Records > partRecords || p.Matching > p.Records:
			return fmt.Errorf("%s cannot hold %d records", p.File, p.Records)
		case mixed && (p.Matches != matchesName(l.Log, next) || !files[p.Matches]), !mixed && p.Matches != "":
			return fmt.Errorf("%s has %q for its matches", p.File, p.Matches)
		}
		next += p.Records
		matching += p.Matching
	}
	if next != l.End || matching != l.Matching {
		return fmt.Errorf("its files end at %d with %d matches, stated are %d and %d", next, matching, l.End, l.Matching)
	}
	return nil
}

func (l *LogManifest) checkCounts() error {
	var records, matching uint64
	for _, c := range l.Counts {
		if c.Matching > c.Records || c.Records > l.Records {
			return fmt.Errorf("%d of %d %s records match", c.Matching, c.Records, c.Type)
		}
		records += c.Records
		matching += c.Matching
	}
	if records != l.Records || matching != l.Matching {
		return fmt.Errorf("counts add up to %d records and %d matches, stated are %d and %d", records, matching, l.Records, l.Matching)
	}
	return nil
}
