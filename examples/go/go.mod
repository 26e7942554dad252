module dutch-master-example

go 1.19
