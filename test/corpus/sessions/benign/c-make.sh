# SPDX-License-Identifier: Apache-2.0
# Compile C in parallel, with a makefile.
# like: unbacked-exec
# needs: cc make
for i in 1 2 3 4; do echo "int f$i(void){return $i;}" >f$i.c; done; echo 'int main(void){return 0;}' >m.c
printf 'prog: f1.o f2.o f3.o f4.o m.o\n\tcc -o $@ $^\n' >Makefile
call c1 'make -s -j4 && ./prog && rm -f *.o prog'
