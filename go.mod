module github.com/watchglass/watchglass

go 1.26
