package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// routingData says which rule of an app decides, the first one whose methods and paths match, so that the shipped Rego
// looks it up instead of trying one after another.
type routingData struct {
	By        string            `json:"by"`        // what the rules look at: nothing, method, path, both
	Exact     map[string]places `json:"exact"`     // by path
	Folders   []string          `json:"folders"`   // of Below
	Below     []folderData      `json:"below"`     // for paths that are not in Exact; longer folders come first
	Elsewhere places            `json:"elsewhere"` // for all other paths
}

type folderData struct {
	Folder string `json:"folder"` // ends with a slash
	Places places `json:"places"`
}

// places are where in the list the deciding rule is, by method. What the others have is under otherMethods; noRule
// means that none decides.
type places map[string]int

const (
	otherMethods = "*"
	noRule       = -1
)

func routingOf(rules []ruleData) routingData {
	d := routingData{Exact: map[string]places{}, Folders: []string{}, Below: []folderData{}}
	var everywhere []int
	var byMethod, byPath bool
	exact, below := make(map[string][]int), make(map[string][]int)
	for i := range rules {
		byMethod = byMethod || len(rules[i].Methods) > 0
		if rules[i].Paths == nil {
			everywhere = append(everywhere, i)
			continue
		}
		byPath = true
		for path := range rules[i].Paths.Exact {
			exact[path] = append(exact[path], i)
		}
		for _, folder := range rules[i].Paths.Below {
			below[folder] = append(below[folder], i)
		}
	}
	matching := func(path string) []int {
		list := slices.Concat(everywhere, exact[path])
		for end := range path {
			if path[end] == '/' {
				list = append(list, below[path[:end+1]]...)
			}
		}
		slices.Sort(list)
		return list
	}
	for path := range exact {
		d.Exact[path] = placesOf(rules, matching(path))
	}
	d.Folders = slices.AppendSeq(d.Folders, maps.Keys(below))
	slices.SortFunc(d.Folders, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	for _, folder := range d.Folders {
		d.Below = append(d.Below, folderData{folder, placesOf(rules, matching(folder))})
	}
	d.By = routingBy(byMethod, byPath)
	d.Elsewhere = placesOf(rules, everywhere)
	return d
}

// placesOf finds the first rule for each method among those in the list, which is in order.
func placesOf(rules []ruleData, list []int) places {
	p := make(places)
	for _, i := range list {
		if len(rules[i].Methods) == 0 {
			p[otherMethods] = i
			return p
		}
		for method := range rules[i].Methods {
			if _, earlier := p[method]; !earlier {
				p[method] = i
			}
		}
	}
	p[otherMethods] = noRule
	return p
}

func routingBy(method, path bool) string {
	switch {
	case method && path:
		return "both"
	case method:
		return "method"
	case path:
		return "path"
	}
	return "nothing"
}
